"""
The terminal viewer, `mpsr top`: messages as they arrive, a search over the whole journal, and the producers.

search                   the language of the search box, as parameters of the hub's methods
row, columns             a message as one line of the list, and the columns of a line
window                   the rows that are loaded, and the place of the screen and of the cursor in them
chart                    the histogram, as columns of a few lines
record                   a message in full, as lines
rates                    producers and their rates, from two answers of the hub
store                    where messages come from: athub asks a running hub, infiles reads the journal
moves                    what moves the window: following, scrolling, the next error
pulse                    whether the hub answers, and how fast its journal grows
keys                     the keys and what each does
painted                  a widget that makes its lines when they are drawn; these are:
listing, pane, strip     the list, a message in full, the histogram
status, table            the first and the last line, the producers
searchbox                the line in which the filter is edited
live                     the view of the messages
app                      the application
work                     what is done in the background of the screen
"""
