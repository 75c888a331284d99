"""
The hub's HTTP server: the source `http`. Its library is loaded only where one is configured.

source          binds the path or the address, and accepts
connection      one client, around aiohttp's protocol (handler)
website         which request goes where; door: who may do what
ingest          requests that bring messages; body: reads their bodies within all limits
reading         requests that read messages
figures         the counters for Prometheus
answering       the form of answers, and what becomes of errors

The page for browsers is a server of its own:

pages           the method `web`, which opens it for a caller; permanent: the page of the table [web]
pageserver      one server of it; pagesite: which request goes where; pagedoor: who may do what
strangers       connections that have not shown the token
pagefiles       its files, which are in page/
rpc             its WebSocket: the methods of the hub; socketoutbox: replies that wait for their client
"""
