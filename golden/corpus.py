"""An endless stream of little stories, from which the models that come along learn to write.

A story is a plot told about a cast. Plots are templates in a small notation: ``[one|other]`` takes
one alternative (which may be empty), ``{hole}`` is filled from the cast of the story and is the
same thing wherever it stands in it. A capital in ``{Hole}`` makes a capital of the first letter.

>>> next(stories(1)) == next(stories(1))
True
"""

import re
from collections.abc import Iterator
from random import Random

__all__ = ["NAMES", "PLOTS", "stories", "story"]

NAMES = {
    "boy": "Tom Tim Ben Sam Leo Jack Finn Noah Adam Paul Dan Luke Oscar Peter Henry Theo Hugo Nick "
    "Bob Billy David George James John Mark Eric Fred Anton Felix Victor Simon Omar Ravi Ken",
    "girl": "Lily Mia Anna Sue Lucy Emma Sara Zoe Ella Amy Nina Kate Rosa Jane Ruby Molly Eva Ivy "
    "Alice Clara Julia Laura Mary Jenny Sophie Olivia Hannah Grace Helen Maria Tara Vera Yuki",
    "he": "Max Rex Buddy Toby Rusty Bruno Pip Otto",
    "she": "Bella Daisy Coco Luna Tilly Misty Dot Pixie",
}
"""Names of boys and girls, and of animals that are a he or a she."""

PRONOUNS = {
    "boy": {"he": "he", "him": "him", "his": "his"},
    "girl": {"he": "she", "him": "her", "his": "her"},
}
PRONOUNS |= {"he": PRONOUNS["boy"], "she": PRONOUNS["girl"]}

ANIMALS = ("dog", "cat", "rabbit", "bear", "mouse", "duck", "fox", "frog", "pig", "goat")

WORDS = {
    "color": ("red", "blue", "green", "yellow", "pink", "white", "brown", "orange"),
    "toy": ("ball", "car", "doll", "boat", "drum", "train", "robot", "book", "truck", "puzzle"),
    "flyer": ("kite", "ball", "balloon", "hat", "plane"),
    "gift": ("hat", "scarf", "bag", "cup", "card", "flower", "crown", "bell", "ring"),
    "fragile": ("cup", "plate", "vase", "lamp", "clock", "bowl"),
    "food": ("cake", "apple", "pie", "cookie", "pear", "sandwich", "bun", "orange"),
    "dish": ("cake", "pie", "pizza", "soup", "bread"),
    "ingredient": ("milk", "butter", "salt", "flour", "cheese"),
    "elder": ("mom", "dad", "grandma", "grandpa"),
    "baby": ("bird", "duck", "cat", "deer", "goat", "sheep", "fox", "owl"),
    "climber": ("bird", "squirrel", "monkey", "owl"),
    "place": (
        "park: in the park", "garden: in the garden", "forest: in the forest", "lake: at the lake",
        "beach: on the beach", "farm: on the farm", "field: in the field", "river: by the river",
    ),
    "room": ("kitchen", "bedroom", "hall"),
    "spot": (
        "under the bed", "behind the door", "in the box", "under the table", "on the shelf",
        "behind the chair", "in the garden", "in the bag",
    ),
    "search": ("under a tree", "behind a rock", "in the grass", "near the water", "on the path"),
    "trap": ("a net", "a hole", "the mud", "a bush", "a box"),
    "seat": ("under a tree", "on a bench", "on the grass", "on a rock"),
    "goal": ("big tree", "old gate", "red barn", "bridge", "pond"),
    "building": ("tower", "castle", "house", "bridge"),
    "stuff": ("blocks", "sand", "stones", "wood"),
    "plant": ("yellow flower", "red flower", "apple tree", "pumpkin", "rose", "bean"),
    "skill": ("swim", "ride a bike", "sing", "dance", "skate", "read", "draw", "jump rope"),
    "game": ("ball", "tag", "hide and seek", "games"),
    "trait": ("happy", "kind", "brave", "funny", "clever", "quiet"),
    "home": ("in a small house", "on a farm", "near the sea", "in a big city", "on a hill"),
    "hobby": ("sing", "run", "play", "laugh", "paint", "help"),
    "fear": (
        "the big slide: go down the slide: went down the slide",
        "the cold water: jump in the water: jumped in the water",
        "the old bridge: walk over the bridge: walked over the bridge",
        "the dark cave: look in the cave: looked in the cave",
        "the tall tree: climb the tree: climbed the tree",
        "the big horse: pet the horse: petted the horse",
    ),
    "indoors": (
        "bake a cake: baked a cake",
        "paint a picture: painted a picture",
        "read a book: read a book",
        "sing songs: sang songs",
        "play a game: played a game",
        "build a tent: built a tent",
    ),
}  # fmt: skip
"""What the holes of a plot are filled with; parts after a colon are the same in other forms."""

FORMS = {
    "place": ("place", "at_place"),
    "fear": ("fear", "dare", "dared"),
    "indoors": ("indoors", "did"),
}
"""The holes that such parts fill."""

PHRASES = {
    "day": "One [day|day|morning|afternoon|sunny day]",
    "went": "[{day}, {who}|It was a [sunny|warm|fine|windy] day. {Who}|{Who}] "
    "[went|went|walked|ran] to the {place}",
    "sad": "[was [very |]sad|began to cry]",
    "happy": "[was [very |so |]happy|[smiled|laughed]]",
}
"""Holes that are told anew each time."""

INTRODUCTIONS = (
    "Once upon a time, there was a [little|small|young|{trait}] {kind} named {hero}.",
    "Once upon a time, a [little|{trait}] {kind} named {hero} lived {home}.",
    "Once there was a [little|{trait}] {kind} named {hero}.",
    "There was a [little|small|{trait}] {kind} named {hero}.",
    "{hero} was a [little|young|{trait}] {kind}. [{He} lived {home}.|]",
    "A [little|{trait}] {kind} named {hero} lived {home}.",
)
"""How a story may open before its plot begins."""

PAIRS = (
    "{hero} and {pal} were [good|best] friends.",
    "Once upon a time, {hero} and {pal} were friends.",
    "{hero} and {pal} were two friends who lived {home}.",
)
"""The same for a plot about the hero and a friend."""

HABITS = ("{He} loved to {hobby}.", "{hero} liked to {hobby} [all day|every day].", "", "", "")
"""What may follow an introduction."""

PLOTS = {
    "lost": """
        {Who} had a {color} {toy}.
        [{He} loved it very much.|{He} played with it every day.|It was {his} best toy.]
        {Day}, {he} could not find the {toy}. {hero} {sad}.
        ["Where is my {toy}?" asked {hero}.|"I lost my {toy}," said {hero}.]
        "Did you look {spot}?" asked {his} {elder}.
        {hero} [looked|ran and looked] {spot}. [There was|There {he} found] the {color} {toy}!
        ["Thank you, {Elder}!" said {hero}.|{He} hugged {his} {elder}.] {He} {happy}.
        [From that day on, {hero} took good care of the {toy}.
        |{hero} learned to put the {toy} in a safe place.|]
        """,
    "mine": """
        {Who} had a {color} {toy}. {Day}, {friend} wanted to play with the {toy}.
        "No, it is mine!" said {hero}. {pal} [was sad and went away|began to cry and went home].
        {hero} played with the {toy} alone, but it was [not fun|no fun].
        {He} [ran|went] to {pal}. "I am sorry," said {hero}. "We can play together."
        {pal} {happy}. They played with the {color} {toy} [all day|until it was dark].
        [{hero} learned that it is [good|more fun] to share.|Now {hero} liked to share.]
        """,
    "stuck": """
        [{Went}. {He} [saw|found]|{At_place}, {who} [saw|found]] a [little|sad] {animal}.
        The {animal} was stuck in {trap}. "[Please help|Help] me!" said the {animal}.
        [{hero} was not afraid.|{hero} wanted to help.]
        {He} pulled [and pulled|very hard]. At last, the {animal} was free.
        "Thank you, {hero}," said the {animal}. "You are [so|very] kind."
        [{hero} and the {animal} became good friends.
        |The {animal} gave {hero} a {color} {gift}. {hero} {happy}.
        |Then they played {game} together. It was a good day.]
        """,
    "half": """
        [{Who} had a big {food}. {He} sat {seat} to eat it.
        |{Day}, {who} sat {seat} to eat a big {food}.]
        Then {friend} came by. {pal} was [very|so] hungry.
        ["May I have some?" asked {pal}.|"That looks good," said {pal}.]
        [At first, {hero} did not want to share. But {pal} looked sad.|]
        {hero} cut the {food} in two. "This half is for you," said {hero}.
        {pal} {happy}. They ate the {food} together. [It was very good.|]
        [{hero} learned that it is good to share.|A {food} is better with a friend.]
        """,
    "afraid": """
        {Who} was [afraid|scared] of {fear}.
        {Day}, {friend} said, "Let us {dare}!"
        "I can not do it," said {hero}. "I am scared."
        "[I will stay with you|We can do it together]," said {pal}.
        {hero} [closed {his} eyes|counted to three|took a deep breath]. Then they {dared} together.
        "[I did it|That was fun]!" said {hero}. "Let us do it again!"
        {hero} was not [afraid|scared] of {fear} any more. [{He} was [brave|proud].|]
        """,
    "night": """
        [It was a dark night. {Who}|One night, {who}] could not sleep.
        {He} heard a [soft|strange|loud] sound. "[Who is there|What is that]?" asked {hero}.
        {He} was scared, but {he} [took a lamp and|] [opened the door|looked under the bed].
        It was only a little {animal}! The {animal} was cold and sad.
        "Do not be afraid," said {hero}. {He} gave the {animal} a warm {color} blanket.
        Soon the {animal} was asleep. [{hero} smiled and went back to bed.|Then {hero} slept too.]
        """,
    "rain": """
        [It was a rainy day.|It rained all day.] {Who} could not go to the {place}. {hero} {sad}.
        ["What can I do?" asked {hero}.|"I do not like the rain," said {hero}.]
        "Let us {indoors}," said {his} {elder}. So they {did} together.
        [It was [so much|] fun.|] Then the rain stopped and the sun came out.
        "Look, a rainbow!" said {hero}.
        [{hero} learned that a rainy day can be fun.|{hero} was happy that it rained.
        |Now {hero} liked the rain.]
        """,
    "gift": """
        [{Day}, {who}|{Who}] wanted to give {friend} a gift. But {he} had no money.
        So {hero} made a {color} {gift}. {He} put it in a [little|big] box and went to {pal}.
        "This is for you, {pal}!" said {hero}. {pal} opened the box and saw the {color} {gift}.
        "[I love it|It is so pretty]! Thank you, {hero}!" said {pal}.
        [Then they ate cake together.|{pal} hugged {hero}.]
        [{hero} learned that it is good to give.|It was the best gift of all.|They were both happy.]
        """,
    "new": """
        {Went}. A new {pal_kind} sat alone {seat}. The {pal_kind} looked sad.
        "Hello, I am {hero}," said {hero}. "What is your name?"
        "My name is {pal}," said the {pal_kind}. "I have no friends here."
        "[Do you want to|Will you] play {game} with me?" asked {hero}.
        [{pal} smiled.|"Yes, please!" said {pal}.|"I would love to!" said {pal}.]
        They played {game} [all day|until it was dark].
        [{hero} and {pal} became best friends.|From that day on, they played together every day.]
        """,
    "broken": """
        [{Day}, {who}|{Who}] [played|was playing] with {his} {color} {toy} in the {room}.
        The {toy} hit a {fragile}. The {fragile} fell down and broke. Oh no!
        {hero} was scared. [{He} wanted to hide. But|Then] {he} went to {his} {elder}.
        "I broke the {fragile}. I am sorry," said {hero}.
        {His} {elder} was not angry. "Thank you for telling the truth," said {his} {elder}.
        They fixed the {fragile} together. [Soon it was like new.|]
        [{hero} learned to tell the truth.|After that, {hero} played with the {toy} outside.]
        """,
    "seed": """
        [{Day}, {who}|{Who}] found a [tiny|little] seed {at_place}.
        [{He} took it home and put|{He} put] it in the ground. Every day, {hero} gave it water.
        {He} waited and waited. "It will not grow," {he} said. {hero} was sad.
        "[Just wait|You must wait]," said {his} {elder}. "Good things take time."
        One morning, {hero} saw a [big|little] {plant}! "It is my {plant}!" said {hero}.
        [{hero} {happy}.|{hero} learned to wait.|{He} danced around the {plant}.]
        """,
    "building": """
        {Who} wanted to build a [big|tall] {building}. {He} used {stuff}.
        {He} worked [all day|very hard]. But the {building} fell down. {hero} {sad}.
        "[I can not do it|It is too hard]," said {hero}.
        Then {friend} came. "Do not give up," said {pal}. "I will help you."
        They [tried again|worked together]. This time, the {building} did not fall down.
        "We did it!" said {hero}. "It is the best {building}!"
        [{hero} learned [to try again|not to give up].|They were proud of the {building}.]
        """,
    "tree": """
        {Went} with {his} {color} {flyer}. The wind blew, and the {flyer} flew up, up, up.
        It got stuck in a tall tree. {hero} jumped and jumped, but the tree was too tall.
        A little {climber} saw {him}. "I can help you," said the {climber}.
        The {climber} went up the tree and got the {flyer}.
        "Thank you, {climber}!" said {hero}. {He} gave the {climber} a [nut|bun|berry].
        [They became good friends.|Then {hero} went home with the {color} {flyer}. {He} {happy}.]
        """,
    "race": """
        {Day}, {who} and {friend} had a race to the {goal}. {hero} was very fast.
        But {pal} fell down and hurt {pal_his} [leg|foot]. {hero} stopped and went back.
        "Are you okay?" asked {hero}. "I can not run," said {pal}.
        {hero} helped {pal} get up. They walked to the {goal} together.
        "You did not win," said {pal}. "I have a friend. That is better," said {hero}.
        [They [both|] smiled and went home.|They were [both|very] happy.]
        """,
    "learn": """
        {Who} wanted to learn to {skill}. {He} tried, but it was [very|too] hard. {hero} {sad}.
        "I can not {skill}," said {hero}.
        "Try a little every day," said {his} {elder}. "I will help you."
        So {hero} tried every day. [Some days were hard, but {he} did not give up.|]
        At last, {he} could {skill}! "Look at me, {Elder}! I can {skill}!" said {hero}.
        {His} {elder} [was so proud|clapped and smiled]. [{hero} learned not to give up.|]
        """,
    "cook": """
        [{Day}, {who}|{Who}] wanted to make a [big|good] {dish} for {his} {elder}.
        But {he} had no {ingredient}. {hero} went to {friend}.
        "Do you have some {ingredient}?" asked {hero}.
        "Yes, I do," said {pal}. "[Can I help you|May I help]?"
        They made the {dish} together. Then they gave it to {his} {elder}.
        "This is the best {dish}!" said {his} {elder}. [{hero} and {pal} were [very|so] happy.|]
        [They all ate the {dish}.|It is good to have a friend.]
        """,
    "baby": """
        [{Went}. {He} [saw|met]|{At_place}, {who} [saw|met]] a baby {baby}. It was crying.
        "[I am lost|I can not find my mom]," said the baby {baby}.
        "Do not cry," said {hero}. "I will help you."
        They looked {search_a}. They looked {search_b}. [But no one was there.|]
        Then they heard a big {baby}. "That is my mom!" said the baby {baby}.
        The big {baby} {happy}. "Thank you, {hero}," said the big {baby}.
        [{hero} waved and went home.|{hero} was happy that {he} could help.]
        """,
    "tidy": """
        {Who} had many toys. They were all over the {room}.
        "Please clean up," said {his} {elder}. But {hero} [wanted to play|did not want to].
        Then {hero} could not find {his} {color} {toy}. {He} looked and looked.
        So {hero} began to clean up. {He} put all the toys in a big box.
        And {spot}, {he} found the {color} {toy}!
        "Now the {room} looks so nice," said {his} {elder}. {hero} {happy}.
        [After that, {hero} cleaned up every day.|{hero} learned to clean up.]
        """,
    "snow": """
        [It was a cold day.|One morning, there was snow.] {Who} ran out to play in the snow.
        {He} made a big snowman and gave it a {color} hat.
        "The snowman is alone," said {hero}. "It needs a friend."
        {hero} called {pal}. They made a little snowman and gave it a {color_b} hat.
        "Now they are friends like us," said {pal}. [{hero} {happy}.|]
        [Then they went in to get warm.|They played in the snow all day.]
        """,
    "wish": """
        One night, {who} [looked at the sky and|] saw a [big|bright] star.
        "I wish I had a {animal}," said {hero}. Then {he} went to bed.
        In the morning, there was a sound at the door. {hero} [ran to|opened] the door.
        A little {animal} was there! It was [cold|hungry|alone].
        "You can stay with me," said {hero}. {He} gave the {animal} some food.
        {hero} named the {animal} {pet}. [They played together every day.|{pet} {happy}.]
        [{hero} and {pet} became best friends.|{hero} looked at the star and said, "Thank you."]
        """,
}
"""The plots. Whoever says something says it by name; only the hero is a he or a she."""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_HOLE = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


def stories(seed: int) -> Iterator[str]:
    """Yield stories without end; the same ones for the same `seed`."""
    rng = Random(seed)
    while True:
        yield story(rng)


def story(rng: Random) -> str:
    """Tell one story, of plain ASCII and in one paragraph."""
    cast = _cast(rng)
    plot = PLOTS[rng.choice(sorted(PLOTS))]
    opening = _open(plot, cast, rng)
    text = " ".join(_tell(f"{opening} {plot}", cast, rng).split())
    return _ARTICLE.sub(r"\1n ", text)


def _open(plot: str, cast: dict[str, str], rng: Random) -> str:
    """Choose an opening; let the `cast` know whether it says who the hero and the friend are."""
    cast["friend"] = "{his} friend {pal}"
    if rng.random() < 0.4:
        cast["who"] = "{hero}"
        return ""
    if "{friend}" in plot and rng.random() < 0.3:
        cast |= {"who": "{hero}", "friend": "{pal}"}
        return rng.choice(PAIRS)
    cast["who"] = "[{hero}|{he}]"
    return f"{rng.choice(INTRODUCTIONS)} {rng.choice(HABITS)}"


def _cast(rng: Random) -> dict[str, str]:
    """Choose who and what a story is about: a template for every hole."""
    cast = dict(PHRASES)
    for hole, words in WORDS.items():
        forms = rng.choice(words).split(": ")
        cast |= dict(zip(FORMS.get(hole, (hole,)), forms, strict=True))
    cast["search_a"], cast["search_b"] = rng.sample(WORDS["search"], 2)
    cast["color_b"] = rng.choice([color for color in WORDS["color"] if color != cast["color"]])
    cast["pet"] = rng.choice((NAMES["he"] + " " + NAMES["she"]).split())
    hero = _character(rng, ())
    pal = _character(rng, (hero["hero"], cast["pet"]))
    cast |= {f"pal_{hole}": word for hole, word in pal.items()} | {"pal": pal["hero"]}
    cast["animal"] = rng.choice([animal for animal in ANIMALS if animal != hero["kind"]])
    return cast | hero


def _character(rng: Random, taken: tuple[str, ...]) -> dict[str, str]:
    """Choose name, kind and pronouns of a child or, less often, of an animal."""
    group = rng.choice(("boy", "girl") * 3 + ("he", "she"))
    kind = group if group in ("boy", "girl") else rng.choice(ANIMALS)
    name = rng.choice([name for name in NAMES[group].split() if name not in taken])
    return {"hero": name, "kind": kind} | PRONOUNS[group]


def _tell(template: str, cast: dict[str, str], rng: Random) -> str:
    """Take alternatives, innermost first, and fill holes until none is left."""
    while "[" in template:
        template = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), template)

    def fill(match: re.Match[str]) -> str:
        hole = match[1]
        text = _tell(cast[hole.lower()], cast, rng)
        return text[0].upper() + text[1:] if hole[0].isupper() else text

    return _HOLE.sub(fill, template)
