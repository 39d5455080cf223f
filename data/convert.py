"""Write a data set in another format: ``python data/convert.py data=pdebench data.path=FILE to=store out=FOLDER``.

``to`` is ``store`` (our store, in chunks that windows are quick to read from), ``the_well`` (The Well's schema) or
``pdebench``. An interrupted conversion to the store goes on when the same command is given again.
"""

from pdesurrogate.cli import run

if __name__ == "__main__":
    run("convert")
