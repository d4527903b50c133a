"""Tools of the documentation. None of them is a part of the installed package."""
