"""From the text of a file to one typed, checked model: source -> convert -> crosscheck -> LinkerConfig.

``load.py`` is the way in. Nothing here opens a socket or starts a task, and importing it loads no network library:
``hostmesh check`` has to be instant.
"""
