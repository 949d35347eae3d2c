"""Units of work on other machines, carried out by Slurm, by Ray or by this one."""
