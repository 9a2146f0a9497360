"""Price updates that none of the clients may take for one."""

BAD = {
    "no price": ({"price": None}, "price"),
    "text in place of a price": ({"price": "x"}, "price"),
    "no exchange": ({"exchange": None}, "exchange"),
    "an instrument that is a number": ({"instrument": 5}, "instrument"),
    "no time": ({"timestamp": "soon"}, "timestamp"),
    "a time before there was anything": ({"timestamp": "1970-01-01T00:00:00Z"}, "timestamp"),
    "a time that is far ahead": ({"timestamp": "2200-01-01T00:00:00Z"}, "timestamp"),
}
"""By what it is: the fields that are not as they should be, and what the reason names."""
