"""The parts that tests, demo and benches run against. One file per part; `process` starts and stops them."""
