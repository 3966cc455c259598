"""The section ``output``: how the files of a run are written, which changes none of its numbers."""

from typing import Literal, get_args

from vaexp.config.section import Section

FigureFormat = Literal["png", "svg", "pdf"]
FIGURE_SUFFIXES = tuple(f".{name}" for name in get_args(FigureFormat))


class OutputConfig(Section):
    """How the files of a run are written. It is no part of what the run is."""

    figure_format: FigureFormat = "png"
    """The format of the figures that training and `vaexp evaluate` draw. png: pixels, 150 per inch.
    svg and pdf: vectors, for papers. The pictures of `vaexp sample` and `vaexp compare` are png."""

    tensorboard: bool = False
    """Also write the numbers of training to a file that `tensorboard --logdir runs` shows. It needs
    TensorBoard: pip install 'vaexp[tensorboard]'."""

    @property
    def suffix(self) -> str:
        """The end of the names of figures, such as ".png"."""
        return f".{self.figure_format}"
