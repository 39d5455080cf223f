"""Many trainings that differ in some options: on a grid, or where a study of Optuna looks next."""
