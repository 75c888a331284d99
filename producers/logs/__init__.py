"""
Log libraries as producers.

handler, renderer        `HubHandler` for logging; `HubRenderer` and `HubLoggerFactory` for structlog
emitter                  sends their records through a `Producer`
wait_budget              how long that may hold up the application
exceptions, sanitize     exceptions as data; records that msgpack cannot hold
"""
