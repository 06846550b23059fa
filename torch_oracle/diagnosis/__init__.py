"""Which known faults explain what somebody's LSTM gets wrong?"""
