"""The pump: one epoll set whose callbacks are the data path, with trio as its guest for everything that may wait."""
