"""Facts and rules: data and arithmetic. No I/O, no clock; time is an argument."""
