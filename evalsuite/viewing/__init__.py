"""``evalsuite view``: the report on loopback, built again whenever the results change."""
