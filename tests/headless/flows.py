"""Workflows of the fake nodes, in both formats, for the tests of the command line."""

GOOD = {
    "1": {"class_type": "FakeText", "inputs": {"text": "hello"}, "_meta": {"title": "Prompt"}},
    "2": {"class_type": "FakeSave", "inputs": {"value": ["1", 0], "prefix": "clip"}},
    "3": {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}},
}

EDITOR = {
    "version": 0.4, "last_node_id": 2, "last_link_id": 1, "groups": [], "config": {}, "extra": {},
    "nodes": [
        {"id": 1, "type": "FakeText", "order": 0, "mode": 0, "inputs": [], "properties": {}, "title": "Prompt",
         "outputs": [{"name": "STRING", "type": "STRING", "links": [1]}], "widgets_values": ["hello"]},
        {"id": 2, "type": "FakeShow", "order": 1, "mode": 0, "properties": {}, "outputs": [],
         "inputs": [{"name": "value", "type": "*", "link": 1}], "widgets_values": []},
    ],
    "links": [[1, 1, 0, 2, 0, "STRING"]],
}  # fmt: skip
