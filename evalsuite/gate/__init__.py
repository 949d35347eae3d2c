"""``evalsuite gate``: is a candidate as good as a baseline, item by item; an exit code for CI."""
