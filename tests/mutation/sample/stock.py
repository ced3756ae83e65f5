MOST = 10


def fits(amount: int) -> bool:
    return 0 < amount <= MOST
