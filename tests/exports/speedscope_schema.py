# SPDX-License-Identifier: Apache-2.0
"""Validates a speedscope file by speedscope's own JSON schema: speedscope_schema.py FILE SCHEMA"""

import json
import sys

import jsonschema

with open(sys.argv[1]) as file, open(sys.argv[2]) as schema:
    jsonschema.validate(json.load(file), json.load(schema))
