"""All results of a scale as one HTML page that needs neither a server nor the network."""
