from wire import serve

serve()
