"""One step of a client that counts: every increment is there exactly once, and a transaction reads what it wrote."""


def step(r, key, value, problems):
    """Increments `key`, which this client left at `value`; returns what it was told, and adds to `problems` what was wrong."""
    told = r.incr(key)
    if told != value + 1:
        problems.append(f"{key}: {told} after {value}")
    with r.pipeline() as transaction:
        transaction.set(f"{key}:t", told).get(f"{key}:t")
        read = transaction.execute()[1]
    if int(read) != told:
        problems.append(f"{key}: read {read}, wrote {told}")
    return told
