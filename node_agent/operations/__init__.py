"""What may be asked of this node: one function for each row of `protocol.operations`.

`table.py` names them, `dispatcher.py` runs them for the hive and for the local API alike.
"""
