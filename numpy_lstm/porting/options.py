"""What a caller may say of a file, and the error that names an option of the caller."""

from collections.abc import Mapping
from dataclasses import dataclass

from numpy_lstm.errors import InputError


@dataclass(frozen=True)
class ReadOptions:
    """What the caller knows of an LSTM that its file may not say; None where the file decides.

    Args:
        layout: the key of a row of the table.
        select: which LSTM of the file: the prefix of its tensors, or those of its layers in a
            tuple, or in a string with commas between them.
        forget_bias: the number that is added to a_f at run time.
        activations: of the gates, of the candidate, and of c on its way out.
        names: of the tensors, where the file's own names say nothing: by kind of tensor (W_ih,
            W_hh, b, ...) or name in the layout, the name in the file.
    """

    layout: str | None = None
    select: str | tuple[str, ...] | None = None
    forget_bias: float | None = None
    activations: tuple[str, str, str] | None = None
    names: Mapping[str, str] | None = None


NO_OPTIONS = ReadOptions()


class OptionError(InputError):
    """An error whose remedy is an option of the caller.

    The message is kept in three parts, so that a command can put its flag where a library has the
    name of an argument.

    Args:
        before: the message up to the option's name.
        option: the name of an argument of `convert`, or of a field of `ReadOptions`.
        after: the rest of the message.
        of_destination: whether it is an option for reading the second file of a check.
    """

    def __init__(
        self, before: str, option: str, after: str = "", *, of_destination: bool = False
    ) -> None:
        self.before = before
        self.option = option
        self.after = after
        self.of_destination = of_destination
        super().__init__(self.worded(option))

    def worded(self, name: str) -> str:
        """The message with another name for the option, such as the flag of a command."""
        return f"{self.before}{name}{self.after}"

    def for_destination(self) -> "OptionError":
        """The same error, raised where the second file of a check is read."""
        return OptionError(self.before, self.option, self.after, of_destination=True)
