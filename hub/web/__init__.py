"""
The hub's HTTP server: the source `http`. Its library is loaded only where one is configured.

source          binds the path or the address, and accepts
connection      one client, around aiohttp's protocol (handler)
website         which request goes where; door: who may do what
ingest          requests that bring messages; body: reads their bodies within all limits
reading         requests that read messages
figures         the counters for Prometheus
"""
