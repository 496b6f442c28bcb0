"""How beartype checks the package's annotations: a whole number is good where a float is wanted."""

import beartype

checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
