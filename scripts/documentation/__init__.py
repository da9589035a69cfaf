"""The pages that are made from the code, so that they cannot differ from it.

One module for each kind of page; `pages` lists them. Must not say anything the code does not hold.
"""
