"""Whether the panel works: a word for strangers, and the facts for those who run it.

`pages` answers, `looks` sees to it that an answer comes soon and costs little, `facts` and `database_state` are
what is looked at.
"""
