"""Tasks that begin by themselves.

``models``   a schedule
``times``    when it is due: pure
``storing``  checked, saved, switched on and off by people
``running``  begun by the clock, put off, passed over, or stopped for good
"""
