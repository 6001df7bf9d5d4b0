# SPDX-License-Identifier: Apache-2.0
"""Reads a Perfetto trace by Perfetto's own schema and prints what its trace processor would have of it, as JSON.

`problems` are what that would count as errors: unknown fields, numbers that nothing defines, slices on a track that do not
nest, and flows without two ends."""

import json
import sys

from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

Event = schema.TrackEvent
TABLES = {
    "categories": "event_categories",
    "names": "event_names",
    "keys": "debug_annotation_names",
    "values": "debug_annotation_string_values",
}


class Reader:
    def __init__(self):
        self.problems = []
        self.texts = {table: {} for table in TABLES}
        self.tracks = {}
        self.events = []

    def packet(self, packet):
        self.check_fields(packet)
        for table, field in TABLES.items():
            for entry in getattr(packet.interned_data, field):
                text = entry.name if hasattr(entry, "name") else entry.str.decode()
                self.texts[table][entry.iid] = text
        if packet.HasField("track_descriptor"):
            self.track(packet.track_descriptor)
        if packet.HasField("track_event"):
            self.event(packet.timestamp, packet.track_event)

    def track(self, track):
        parent = ""
        if track.parent_uuid:
            parent = self.look_up(self.tracks, track.parent_uuid, "track") + "/"
        name = str(track.process.pid) if track.HasField("process") else track.name
        self.tracks[track.uuid] = parent + name

    def event(self, time, event):
        arguments = {}
        for it in event.debug_annotations:
            key = self.text("keys", it.name_iid)
            kind = it.WhichOneof("value")
            value = getattr(it, kind)
            arguments[key] = self.text("values", value) if kind == "string_value_iid" else value
        self.events.append({
            "time": time,
            "type": Event.Type.Name(event.type),
            "track": self.look_up(self.tracks, event.track_uuid, "track"),
            "row": event.track_uuid,
            "name": self.text("names", event.name_iid) if event.name_iid else None,
            "category": [self.text("categories", it) for it in event.category_iids],
            "arguments": arguments,
            "value": event.counter_value,
            "flows": list(event.flow_ids),
            "ends": list(event.terminating_flow_ids),
        })

    def text(self, table, number):
        return self.look_up(self.texts[table], number, table)

    def look_up(self, table, number, what):
        if number not in table:
            self.problems.append(f"{what} {number} is not defined")
        return table.get(number, "")

    def check_fields(self, message):
        for field in UnknownFieldSet(message):
            self.problems.append(f"{type(message).__name__} has no field {field.field_number}")
        for field, value in message.ListFields():
            if field.message_type:
                for inner in value if not hasattr(value, "ListFields") else [value]:
                    self.check_fields(inner)

    def slices(self):
        """Slices and instants, in the order of time; a row may have one open slice."""
        found, open_slices = [], {}
        for event in self.events:
            if event["type"] == "TYPE_SLICE_END":
                begun = open_slices.pop(event["row"], None)
                if begun is None:
                    self.problems.append(f"nothing ends at {event['time']} on {event['track']}")
                else:
                    begun["end"] = event["time"]
            elif event["type"] != "TYPE_COUNTER":
                if event["row"] in open_slices:
                    self.problems.append(f"slices overlap at {event['time']} on {event['track']}")
                if event["type"] == "TYPE_SLICE_BEGIN":
                    open_slices[event["row"]] = event
                found.append(event)
        return found

    def counters(self):
        counters = {}
        for event in self.events:
            if event["type"] == "TYPE_COUNTER":
                counter = counters.setdefault(event["track"], {"most": 0})
                counter["last"] = event["value"]
                counter["most"] = max(counter["most"], event["value"])
        return counters

    def links(self):
        begins, links = {}, []
        for number, event in enumerate(self.events):
            begins.update((flow, number) for flow in event["flows"])
            for flow in event["ends"]:
                if flow in begins:
                    links.append([self.events[begins.pop(flow)], event])
                else:
                    self.problems.append(f"flow {flow} ends at {event['time']} and did not begin")
        self.problems.extend(f"flow {flow} does not end" for flow in begins)
        return links


def main():
    trace = schema.Trace()
    with open(sys.argv[1], "rb") as file:
        trace.ParseFromString(file.read())
    reader = Reader()
    for packet in trace.packet:
        reader.packet(packet)
    # As the trace processor does it: by time, and as they stand in the file where times are the same.
    reader.events.sort(key=lambda event: event["time"])
    result = {"slices": reader.slices(), "counters": reader.counters(), "links": reader.links()}
    json.dump(result | {"problems": reader.problems}, sys.stdout)


if __name__ == "__main__":
    main()
