"""The doctor: looks at data, model against grid, memory and machine before a training, and says what to change."""
