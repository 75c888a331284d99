"""
Alerts: readers of the journal that report when messages match often enough. docs/alerts.md has their rules.

An alert is run as a sink is (hub.sinks.runner): a thread of its own, a durable cursor, retries after growing pauses.

table           a table ``[[alerts]]`` of the configuration
window          when an alert fires: a pure function of the messages, and what is stored with the cursor
firing          what is reported: as JSON, as text, with a link to the page
watch           the sink that counts matches and reports; runner: runs it; alerts: all of them
webhook         reports by HTTP; command: to a program; stored: as a message in the journal
replay          when an alert would have fired; dryrun: the same as a method of the hub
search          the filters of an alert in the language of the page's search box
"""
