print("entered")
