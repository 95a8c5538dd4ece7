"""Every node of the pack, in a real ComfyUI, takes or refuses whatever other nodes may hand it."""


def test_every_node_takes_or_refuses_every_image(host):
    graph = {"1": {"class_type": "RunCheck", "inputs": {"name": "hostile_images"}}}
    status, outputs, messages = host.wait(host.start(graph), seconds=400)
    assert status == "success", messages["execution_error"]["exception_message"]
    assert int(outputs["1"]["text"][0].split()[0]) > 200
