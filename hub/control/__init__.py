"""
What clients can ask a running hub for.

methods                  the table of JSON-RPC methods, and the right that each requires
"""
