"""The one error that users see, in three parts: what was asked, what is true, what to do."""


class InterpError(ValueError):
    """A request that cannot be met, told so that the reader knows what to change.

    Args:
        asked: what was asked for, e.g. ``"load the model 'gtp2'"``.
        true: what is the case, e.g. ``"no model has that name"``.
        todo: what to do, e.g. ``"did you mean 'gpt2'?"``.

    ``str(error)`` is one sentence; the CLI prints it and leaves with exit code 2.
    """

    def __init__(self, asked: str, true: str, todo: str):
        self.asked, self.true, self.todo = asked, true, todo
        super().__init__(asked, true, todo)

    def __str__(self) -> str:
        return f"Cannot {self.asked}: {self.true}; {self.todo}" + ("" if self.todo.endswith("?") else ".")
