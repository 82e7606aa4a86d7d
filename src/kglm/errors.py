"""The one kind of error that a user is expected to meet."""


class InputError(Exception):
    """Bad input or an unfit environment, told in one line: what is wrong, where, and what to do about it.

    The command line prints the message without a traceback and exits with status 2.
    """

    def __init__(self, what: str, where: object = "", remedy: str = ""):
        text = f"{where}: {what}" if str(where) else what
        super().__init__(" ".join((text + (f"; {remedy}" if remedy else "")).split()))
