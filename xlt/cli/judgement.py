"""placeholder"""


def verify():
    pass


def report():
    pass


def conclude(results, source):
    pass
