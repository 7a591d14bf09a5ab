"""What the tales are about: animals, places, things, and what may befall them.

Each table has a heading that names its attributes and one row a value. An attribute may mention a variable
of another table that the tale has drawn before, such as `{hero.his}`. `grammar.py` explains the notation,
`tale_rules.py` holds the sentences.
"""

_ANIMALS = """
name    | kind     | he  | home           | voice     | gait      | treat
Otto    | otter    | he  | holt           | whistled  | loped     | watercress soup
Mabel   | mouse    | she | thimble house  | squeaked  | scurried  | barley cake
Fern    | fox      | she | den            | murmured  | trotted   | blackberry tart
Bramble | badger   | he  | sett           | grunted   | trudged   | mushroom stew
Hugo    | hedgehog | he  | leaf house     | mumbled   | shuffled  | pear pudding
Tansy   | toad     | she | stone hut      | croaked   | clambered | clover bread
Rosa    | rabbit   | she | burrow         | whispered | hopped    | carrot pie
Sorrel  | squirrel | she | drey           | chattered | scampered | hazelnut bread
Dilly   | duck     | she | reed hut       | quacked   | waddled   | cress salad
Gus     | goose    | he  | barn loft      | honked    | marched   | oat porridge
Pip     | wren     | he  | nest           | chirped   | fluttered | seed cake
Wilf    | wolf     | he  | cave           | rumbled   | padded    | bean soup
Nettie  | newt     | she | mossy well     | gurgled   | wriggled  | cucumber jelly
Barnaby | bear     | he  | log cabin      | boomed    | ambled    | honey cake
Olive   | owl      | she | hollow tree    | hooted    | glided    | plum jam
Clem    | crow     | he  | chimney pot    | cawed     | strutted  | cherry pie
Hattie  | hen      | she | henhouse       | clucked   | bustled   | corn bread
Moss    | mole     | he  | tunnel         | muttered  | plodded   | turnip mash
Ivy     | heron    | she | willow hut     | piped     | stalked   | rhubarb jam
Lottie  | lamb     | she | fold           | bleated   | skipped   | mint tea
"""

_PLACES = """
name
the mill pond
the old stone bridge
the apple orchard
the whispering wood
the beech hill
the reed marsh
the windmill
the lighthouse
the village green
the blackthorn lane
the waterfall
the pebble beach
the crooked oak
the fern valley
the ferry landing
the broken tower
"""

_THINGS = """
name            | lost                                       | found                                   | got
red kite        | The string must have snapped in the wind   | caught in the top of an elm             | shook the tree until it fluttered down
silver bell     | Its ribbon must have come undone           | tinkling in a bramble bush              | hooked it out with a bent twig
blue scarf      | It must have blown off the washing line    | wrapped around a scarecrow              | untied it and left the scarecrow a hat of leaves
tin whistle     | There must be a hole in my pocket          | lying in a wheel rut                    | dug it out of the mud
brass lantern   | I must have put it down in the dark        | half sunk among the reeds               | fished it out with a long pole
wooden boat     | The stream must have carried it off        | turning round and round in a pool       | waded in and caught it
straw hat       | The gale must have taken it                | sitting on the head of a sleepy calf    | won it back with a handful of clover
picture book    | I must have dropped it on the way home     | lying open under a hedge                | dried its pages one by one in the sun
copper kettle   | It must have rolled off the cart           | upside down in a ditch                  | asked the snail inside to move out
patchwork quilt | The wash basket must have tipped over      | spread over a snoring piglet            | waited until the piglet woke
glass marble    | It must have rolled under the door         | shining in a crack of the pavement      | tickled it free with a feather
little drum     | I must have left it at the fair            | rolling down a grassy bank              | ran ahead and stopped it
walking stick   | Someone must have taken it for firewood    | serving two doves as a perch            | traded it for a handful of crumbs
garden spade    | I must have lent it and forgotten          | standing in a row of beans              | pulled it out with both hands
yellow umbrella | The storm must have turned it inside out   | stuck in a chimney like a flower        | bent its ribs straight again
acorn necklace  | The thread must have worn through          | scattered along a garden path           | picked up every acorn and threaded it anew
"""

_WISHES = """
to                                | tried                                                                     | failed                                         | instead                           | then
fly like the swallows             | tied two cabbage leaves to {hero.his} arms and jumped off a haystack      | landed headfirst in a water trough             | build a swing on the tallest tree | By sunset {hero.he} was swinging so high that {hero.his} feet touched the leaves
sing like the blackbird           | practised on the roof from dawn to dusk                                   | made every window in the lane slam shut        | beat the drum for the dancers     | On Saturday nobody danced a step until {hero.he} had given the beat
touch the moon                    | piled seven chairs on a table and climbed to the top                      | came down with a crash in the flour bin        | look for the moon in the pond     | There it lay, round and white, and {hero.he} touched it with one finger
be as tall as a giant             | walked about on two bean poles                                            | tripped over a hen and sat down in the mud     | climb the hill at noon            | From the top the houses looked no bigger than hats
sail across the sea               | put out in a washtub with a tablecloth for a sail                         | sank beside the first lily pad                 | row the ferry for a day           | By evening {hero.he} had carried nine travellers and a cheese
be king of the wood               | made a crown of straw and gave orders to everyone                         | lost the crown to a hungry goat                | lead the lantern walk             | That night forty lanterns followed {hero.him} through the trees
find a pot of gold                | dug a deep hole at the foot of the rainbow                                | found only turnips and a cross beetle          | plant beans in the hole           | By autumn there were beans enough for the whole village
paint the sunset                  | mixed beetroot juice with mud                                             | turned the whole paper the colour of porridge  | paint the garden gate             | Everybody who passed that gate stopped to smile at it
grow the biggest pumpkin          | watered one seed forty times a day                                        | watched the seed float away                    | water it once and wait            | In the last week of September the pumpkin would not fit through the door
stay awake all night              | drank nine cups of black tea and sat on the roof                          | was snoring before the first star came out     | get up early with the baker       | {hero.He} saw the sun rise and was given the first warm roll
talk with the fish                | put {hero.his} head under water and said good morning                     | swallowed a tadpole by mistake                 | sit still and listen              | After an hour a carp came up and blew one slow bubble
win the great race                | trained by running after the mail cart                                    | ran into a milk churn                          | carry the water for the runners   | All the runners said that without {hero.him} nobody would have finished
build a house in the clouds       | nailed nine ladders end to end                                            | woke up hanging from a weathercock             | build a hut in the chestnut tree  | When the mist came up in the morning, the hut stood in the clouds after all
know everything                   | read the almanac from the last page to the first                          | knew only the price of onions                  | ask one good question a day       | By winter {hero.he} knew why the geese fly south, and much besides
"""

_QUARRELS = """
over                                | loss                                                    | peace
who should have the last plum       | While they argued, a magpie flew off with it            | planted the plum stone together
which of them had seen the comet first | While they argued, the comet went behind a cloud     | watched the sky side by side all night
who should steer the raft           | While they argued, the raft ran into a mudbank          | took turns with the pole
whether to turn left or right       | While they argued, it grew dark and they were lost      | drew a map of every path
who had caught the bigger fish      | While they argued, both fish slipped back into the water | mended the net together
what colour to paint the door       | While they argued, the paint dried in the pot           | painted the door in two colours
who should ring the evening bell    | While they argued, the evening passed without a bell    | pulled the rope together
whose turn it was to fetch water    | While they argued, the soup boiled dry                  | carried the bucket between them
which game to play                  | While they argued, the rain began                       | made up a new game with two sets of rules
whose sandcastle was better         | While they argued, the tide came in and took both       | built one big castle with two towers
how to share a bag of chestnuts     | While they argued, the bag tipped into the river        | gathered two new bags and counted them out
who had sung out of tune            | While they argued, the choir went home                  | practised the song until it was right
"""

_DANGERS = """
trap                                              | tool                | rescue
sat on a rock in the middle of the river          | a long rope         | threw one end across and pulled with all {hero.his} might
hung from a branch over the flood                 | a ladder            | held it steady while the branch bent lower and lower
was shut in the cellar, and the water was rising  | an iron bar         | pushed until the door sprang open
was stuck in the bog up to the chin               | a broad shovel      | dug like a mill wheel until the mud gave way
had lost the path in the fog                      | a bright lantern    | swung it high until an answer came out of the grey
had slipped into an empty well                    | a bucket on a chain | turned the handle slowly, inch by inch
was drifting out to sea on a barn door            | a fishing line      | hooked the latch at the third cast and wound it in
lay under a fallen signpost                       | a cart jack         | cranked it up just far enough
was caught on the roof of the burning mill        | a sheet             | held it out with the miller and called out to jump
stood on a bridge that had begun to crack         | a long plank        | lay flat and slid it across the gap
"""

_BOASTS = """
claim                        | test                                         | end                                                          | title
jump over the mill stream    | took a run of twenty steps                   | came down in the middle with a splash                        | Mill Stream
lift the blacksmith's anvil  | spat on {hero.his} hands and heaved          | moved nothing but the buttons of {hero.his} coat             | Anvil
eat forty pancakes           | sat down with a knife and fork               | lay groaning under the table after the eleventh              | Forty Pancakes
outrun the mail coach        | set off in a cloud of dust                   | was overtaken by the coach, a cow and a snail                | Mail Coach
stare down a bull            | stood in the gate with folded arms           | spent the night at the top of a pear tree                    | Bull
find the way blindfold       | walked off with a scarf over {hero.his} eyes | knocked politely at the door of a pigsty                     | Blindfold
catch an eel by hand         | reached into the brook                       | was pulled in up to the ears                                 | Eel
ride the wild goat           | leapt on its back with a cheer               | flew over two hedges and into a third                        | Goat
count all the stars          | lay down on the grass and began              | fell asleep at sixty-three                                   | Stars
climb the church tower       | started up the ivy                           | hung from the clock at half past two until help came         | Church Tower
stay under water for an hour | took a deep breath and dived                 | came up at once with a frog on {hero.his} head               | Frog
tame the north wind          | went out in a nightcap to give it orders     | chased that nightcap through three parishes                  | North Wind
"""

_GIFTS = """
name             | from                             | mishap                                        | better
honey biscuits   | flour, butter and heather honey  | the biscuits ran together in the oven         | one biscuit as big as a cartwheel
a woollen cap    | grey wool and a red ribbon       | the cap came out three sizes too large        | the warmest tea cosy in the valley
a wreath         | ivy, larch cones and rose hips   | the sparrows ate half of the berries          | a wreath with two sparrows in it, singing
a song           | three rhymes and a borrowed tune | the last verse would not rhyme                | a song that everyone finished in a different way
a bird bath      | clay from the river bank         | the bowl cracked from side to side            | a flower pot with a door for the toad
candles          | beeswax and string               | the wax set before the wicks were straight    | candles that leaned together like old friends
a rocking chair  | ash wood and willow cane         | one rocker was longer than the other          | a chair that rocked in circles
lemonade         | four lemons and spring water     | the sugar pot was full of salt                | a pail of brine, and the best pickles of the year
a paper lantern  | red paper and split reeds        | the rain made the colours run                 | a lantern that glowed like a sunset
a patchwork bag  | scraps of every old coat         | the needle broke at the last seam             | a bag with one pocket that nobody could find twice
a wooden flute   | a length of elder wood           | the holes were bored too far apart            | a flute that needed two to play it
a feather pillow | goose down and striped cloth     | the pillow burst on the kitchen stairs        | a snowfall in the middle of June
"""

_NOISES = """
sound                          | guess                              | truth
a slow scratching              | a giant sharpening his knife       | a branch of the plum tree rubbing against the wall
a long low moan                | the ghost of the old miller        | a bottle on the sill with the wind in its neck
tap, tap, tap                  | a robber with a wooden leg         | the tap dripping into a tin bowl
a rustling and a sneeze        | a dragon catching cold             | a hedge full of dust and one very small kitten
a rumble under the floor       | an earthquake on its way           | a potato rolling down the cellar stairs
a thump on the roof            | the moon falling down              | a ripe melon that had grown up the drainpipe
a whisper behind the curtain   | a pair of thieves making a plan    | a moth that could not find the window
a clank of chains              | a knight who had lost his horse    | the neighbour's cow with her bell and halter
a splash and a gulp            | a sea serpent in the rain barrel   | a frog having a late bath
a high thin whistle            | an army calling to attack          | the kettle that nobody had taken off the stove
a scuffle in the chimney       | a witch in too great a hurry       | a young starling learning to fly
a creak on the stairs          | a stranger in heavy boots          | the old wood stretching after a hot day
"""

_FIBS = """
lie                                   | stir                                             | twist
a wolf was in the sheepfold           | the shepherds came running with sticks           | a wolf did come, a thin and hungry one
the bridge had fallen down            | the carters drove the long way round             | the bridge did break, with {hero.his} own cart on it
the duke was coming to dinner         | the cooks plucked every goose but one            | the duke did come, and nothing was ready
there was gold in the brook           | everyone dug until the brook ran brown           | {hero.his} ring did fall into the brook
the well was poisoned                 | the whole street drank rainwater for a week      | the pump did break, and {hero.he} cried for help
school was closed for the plague      | the children went fishing                        | school was closed, and {hero.he} sat there alone
a bear was asleep in the church       | the choir sang in the barn                       | a bear did move into {hero.his} own kitchen
the river had run backwards           | the miller turned his wheel around               | the river did rise, right up to {hero.his} door
a giant had eaten the harvest         | the farmers sat down and wept                    | the hail did come, and {hero.he} called for hands
the ferry was giving free rides       | a crowd of forty stood in the rain               | the ferry did give free rides, and only {hero.he} stayed at home
"""


def table(source):
    """Read a table: the heading names the columns, each further line is a row.

    >>> table("name | kind\\nTom | cat")
    [{'name': 'Tom', 'kind': 'cat'}]
    """
    heading, *rows = [[cell.strip() for cell in line.split("|")] for line in source.strip().splitlines()]
    return [dict(zip(heading, row, strict=True)) for row in rows]


def _animals():
    forms = {"he": ("him", "his"), "she": ("her", "her")}
    for row in table(_ANIMALS):
        him, his = forms[row["he"]]
        article = "an" if row["kind"][0] in "aeiou" else "a"
        yield {**row, "him": him, "his": his, "a": f"{article} {row['kind']}",
               "title": row["kind"].title(), "dish": row["treat"].title()}


def _titled(rows):
    return [{**row, "title": row["name"].title().replace("The ", "the ", 1)} for row in rows]


LISTS = {
    "animals": list(_animals()),
    "places": _titled(table(_PLACES)),
    "things": _titled(table(_THINGS)),
    "wishes": table(_WISHES),
    "quarrels": table(_QUARRELS),
    "dangers": table(_DANGERS),
    "boasts": table(_BOASTS),
    "gifts": table(_GIFTS),
    "noises": table(_NOISES),
    "fibs": table(_FIBS),
}

VARIABLES = {
    "hero": "animals", "friend": "animals", "elder": "animals", "place": "places", "thing": "things",
    "wish": "wishes", "quarrel": "quarrels", "danger": "dangers", "boast": "boasts", "gift": "gifts",
    "noise": "noises", "fib": "fibs",
}
