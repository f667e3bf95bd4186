"""What scripts/demo is made of: the jobs that it pushes, the programs that it starts, and what it shows of them."""
