import time
async def test_x(stack, new_topics, new_database, new_name):
    t=time.time(); await new_topics(new_name); print("topics", time.time()-t)
    t=time.time(); print(await new_database(), time.time()-t)
