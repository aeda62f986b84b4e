from cpr_kit import Handler


class Csv(Handler):
    async def handel(self, request):
        return request
