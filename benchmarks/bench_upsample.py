"""upsample on its own; peers and options as in bench_detect.py."""

from bench_detect import main

if __name__ == "__main__":
    main(rooms=("upsample",))
