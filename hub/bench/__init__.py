"""
The measuring instrument: `mpsr bench`. It uses the hub as a process, and the clients as any program does.

bench                    one measurement from the start of the hub to the report
orders                   what a producer process is asked to do
load, applications       a producer process; the cost of a log call in an application
check                    reads the journal back
disk                     the disk's own figures, for comparison
"""
