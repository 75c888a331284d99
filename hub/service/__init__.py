"""
The hub as a service: its configuration, its parts, and the service manager.

service                  builds the parts, starts and stops them; parts: runs such a list
housekeeping, signals    the parts that look after journal, socket and status line; SIGTERM, SIGINT, SIGHUP
inforce                  the configuration in force, as the method `config` shows it
upkeep                   has segments of the journal packed and their indexes made
config, keys             the keys: types and defaults; their flags, variables and help
settings                 loads them. Its helpers: tables (structs for the file), misfit (explains what does not fit)
conflicts                sources and sinks that cannot work together
preflight                what only the machine knows, for `--check` and each start
reloading                a reload while the hub runs
systemd, watchdog        the notify protocol and inherited sockets; signs of life
garbage, heap            full garbage collections, only while they are quick; freed memory that is kept
units                    the unit files that `mpsr install` writes
"""
