"""
Log libraries as producers.

handler, renderer        `HubHandler` for logging; `HubRenderer` and `HubLoggerFactory` for structlog
places                   what the records of one log call have in common, as bytes
emitter                  sends their records through a `Producer`
wait_budget              how long that may hold up the application
exceptions, sanitize     exceptions as data; records that msgpack cannot hold
"""
