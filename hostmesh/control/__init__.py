"""The thread of control that names come through: the local interpreter, later remote ones."""
