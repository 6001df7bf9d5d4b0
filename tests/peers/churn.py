# SPDX-License-Identifier: Apache-2.0
"""Calls churn.c, built as a library, for tools that trace the heap of a Python program: churn.py LIBRARY EVENTS KNOWN FRESH"""

import ctypes
import sys

library, numbers = ctypes.CDLL(sys.argv[1]), [ctypes.c_uint64(int(word)) for word in sys.argv[2:]]
library.churn(*numbers)
