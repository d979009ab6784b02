"""Whether the panel works: one word for strangers, and the facts for its operators.

`pages` answers, `looks` makes sure that answers are quick and cheap, and `facts` and `database_state` are what
is checked.
"""
