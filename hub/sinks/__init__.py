"""
Readers of the journal that deliver what is committed. Each is a row in `hub.service.service.Service._parts`.

stdout          shows each batch (`mpsr hub --print`)
"""
