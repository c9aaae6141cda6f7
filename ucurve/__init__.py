"""ucurve measures whether pre-training a language model longer makes it more fragile.

    from ucurve import Client

    client = Client("http://127.0.0.1:8000")
    experiment = client.submit({"kind": "linear_model"})
    client.wait(experiment.id)
    print(client.table(experiment.id))
"""
