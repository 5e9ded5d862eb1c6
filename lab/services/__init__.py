"""Back ends as local servers on free ports of 127.0.0.1, with their data in the lab's folder."""
