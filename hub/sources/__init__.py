"""
Other ways in than a connection to the socket. Each is a row in `hub.service.service.Service._parts`.

spool           adopts the spools of dead producers; its stages are spoolfolder, holdings, spoolreader and deadspool
"""
