#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Opens a report with the published ttnn-visualizer, as its pages do, and prints what it answers: visualizer.py FOLDER RANK

One JSON object: the operations, the buffers after each, what it says of each operation alone, devices, errors and facts.
"""

import contextlib
import json
import os
import sys
import tempfile


def main():
    folder, rank = os.path.abspath(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as home:
        os.environ["APP_DATA_DIRECTORY"] = os.environ["REPORT_DATA_DIRECTORY"] = home
        # It logs what it does.
        with contextlib.redirect_stdout(sys.stderr):
            answers = ask(folder, rank)
    json.dump(answers, sys.stdout)


def ask(folder, rank):
    from ttnn_visualizer.app import create_app

    client = create_app({"TESTING": True}).test_client()
    opened = client.post("/api/instance/local-paths", json={"profiler_path": folder})
    assert opened.status_code == 200, opened.text
    query = {"instanceId": opened.json["instance_id"], "rank": rank}

    def get(path):
        answer = client.get(f"/api/{path}", query_string=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return json.loads(answer.data)

    operations = get("operations")
    return {
        "operations": operations,
        "details": [get(f"operations/{operation['id']}") for operation in operations],
        "buffers": get("operation-buffers"),
        "all_buffers": get("buffers"),
        "devices": get("devices"),
        "errors": get("errors"),
        "facts": get("report-metadata"),
        "config": get("config"),
    }


if __name__ == "__main__":
    main()
