"""The runtime checker behind the annotations of pgolf while tests run: shapes, and types as PEP 484 has
them, by which an int is a float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
