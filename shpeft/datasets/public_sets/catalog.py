"""The public sets that shpeft can read as they come.

A license is the publisher's own statement where that could be read, and else what others state, which is said. Layouts
are those that public loaders of the sets expect.
"""

from shpeft.datasets.public_sets.readers import class_folders, json_lists, lists, one_hot, table
from shpeft.datasets.public_sets.recipe import Recipe

NO_PATIENTS = "The files do not tell; look-alikes are kept on one side of a split that is drawn."

ISIC_LICENSE = (
    "no statement of the publisher could be confirmed; copies say CC BY-NC 4.0 (no commercial use). Ask before use."
)

ISIC_LESIONS = {
    "MEL": "melanoma",
    "NV": "melanocytic nevus",
    "BCC": "basal cell carcinoma",
    "AKIEC": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
}

ISIC_2019_LESIONS = {"AK" if code == "AKIEC" else code: name for code, name in ISIC_LESIONS.items()}
ISIC_2019_LESIONS["SCC"] = "squamous cell carcinoma"

APTOS_GRADES = {"0": "No DR", "1": "Mild", "2": "Moderate", "3": "Severe", "4": "Proliferative DR"}

COVID_LISTS = {split: f"Data-split/{{0}}/{split}CT_{{0}}.txt" for split in ("train", "val", "test")}

RECIPES = (
    Recipe(
        name="aptos2019",
        title="APTOS 2019 Blindness Detection: grades of diabetic retinopathy",
        modality="fundus",
        classes=tuple(APTOS_GRADES.values()),
        page="https://www.kaggle.com/competitions/aptos2019-blindness-detection/data",
        license="the competition's rules, accepted first: the competition, and non-commercial academic research.",
        license_source="https://www.kaggle.com/c/aptos2019-blindness-detection/rules",
        cite="Asia Pacific Tele-Ophthalmology Society: APTOS 2019 Blindness Detection, Kaggle 2019.",
        homes=("", "aptos2019-blindness-detection"),
        needed=("train.csv", "train_images"),
        tree=("train.csv (id_code, diagnosis 0 to 4)", "train_images/<id_code>.png"),
        groups=NO_PATIENTS + " Both eyes of a patient may be there.",
        problems=(
            "some photographs occur more than once, a few under two grades.",
            "the images have many sizes: see whether the card says that size alone tells the grade.",
            "test_images has no published labels: the test is drawn from the training images.",
        ),
        unverified="the rules' wording (quoted in tensorflow/datasets issue 717), and how many images occur twice.",
        read=table("train.csv", "id_code", "diagnosis", "train_images/{}.png", APTOS_GRADES),
    ),
    Recipe(
        name="isic2018",
        title="ISIC 2018 task 3 (HAM10000): seven kinds of skin lesions",
        modality="dermoscopy",
        classes=tuple(ISIC_LESIONS.values()),
        page="https://challenge.isic-archive.com/data/#2018",
        license=ISIC_LICENSE,
        license_source="https://github.com/MedMNIST/MedMNIST (DermaMNIST, made of HAM10000)",
        cite="Tschandl et al., Scientific Data 5:180161 (2018); Codella et al., arXiv 1902.03368.",
        homes=("",),
        needed=(
            "ISIC2018_Task3_Training_Input",
            "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
        ),
        tree=(
            "ISIC2018_Task3_Training_Input/ISIC_*.jpg",
            "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv (image, MEL, NV, …)",
            "ISIC2018_Task3_Training_LesionGroupings.csv (image, lesion_id), if a lesion is to stay together: "
            "forum.isic-archive.com/t/task-3-supplemental-information/430",
            "the same with Validation and Test instead of Training, where they are wanted as given",
        ),
        groups="The lesion (not the patient) of each training image, from ISIC2018_Task3_Training_LesionGroupings.csv.",
        problems=(
            "a lesion is often there in several images, which a split by image puts on both sides (arXiv 2401.14497).",
            "lesions of one patient cannot be told, and validation and test images have no lesion ids.",
        ),
        unverified="the license at its official page, which is what counts.",
        read=one_hot(
            {
                split: (f"{name}_GroundTruth/{name}_GroundTruth.csv", f"{name}_Input")
                for split, name in (
                    ("train", "ISIC2018_Task3_Training"),
                    ("val", "ISIC2018_Task3_Validation"),
                    ("test", "ISIC2018_Task3_Test"),
                )
            },
            ISIC_LESIONS,
            ("ISIC2018_Task3_Training_LesionGroupings.csv", "image", "lesion_id"),
        ),
    ),
    Recipe(
        name="isic2019",
        title="ISIC 2019: eight kinds of skin lesions",
        modality="dermoscopy",
        classes=tuple(ISIC_2019_LESIONS.values()),
        page="https://challenge.isic-archive.com/data/#2019",
        license=ISIC_LICENSE,
        license_source="https://huggingface.co/datasets/flwrlabs/fed-isic2019",
        cite="Tschandl et al. (2018); Codella et al., arXiv 1710.05006; Combalia et al., arXiv 1908.02288.",
        homes=("",),
        needed=("ISIC_2019_Training_Input", "ISIC_2019_Training_GroundTruth.csv"),
        tree=(
            "ISIC_2019_Training_Input/ISIC_*.jpg",
            "ISIC_2019_Training_GroundTruth.csv (image, MEL, NV, …, SCC, UNK)",
            "ISIC_2019_Training_Metadata.csv (image, …, lesion_id), if a lesion is to stay together",
        ),
        groups="The lesion (not the patient) of an image, from ISIC_2019_Training_Metadata.csv; some have none.",
        problems=(
            "three collections (HAM10000, BCN20000, MSK) of other sizes and looks, whose mix differs by class: the "
            "source is a possible shortcut.",
            "a number of images occur in other years' sets too (Cassidy et al., doi 10.1016/j.media.2021.102305).",
            "the official test images are not read: their class UNK is in no training image.",
        ),
        unverified="the license at its official page, which is what counts.",
        read=one_hot(
            {"train": ("ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Input")},
            ISIC_2019_LESIONS,
            ("ISIC_2019_Training_Metadata.csv", "image", "lesion_id"),
        ),
    ),
    Recipe(
        name="busi",
        title="BUSI: breast ultrasound, benign, malignant or normal",
        modality="ultrasound",
        classes=("benign", "malignant", "normal"),
        page="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        license="not stated by the publisher with the files; ask before use. MedMNIST says CC BY 4.0 of its copy.",
        license_source="https://github.com/MedMNIST/MedMNIST (BreastMNIST)",
        cite="Al-Dhabyani et al., Data in Brief 28:104863 (2020).",
        homes=("", "Dataset_BUSI_with_GT"),
        needed=("benign", "malignant", "normal"),
        tree=(
            "Dataset_BUSI_with_GT/benign/benign (1).png, with benign (1)_mask.png (and _mask_1.png) beside it",
            "Dataset_BUSI_with_GT/malignant/…",
            "Dataset_BUSI_with_GT/normal/…",
        ),
        groups=NO_PATIENTS,
        problems=(
            "780 images of 600 women, no patient ids: many images are repeated, some under two classes (Pawłowska et "
            "al., doi 10.1016/j.dib.2023.109247).",
            "calipers and text are drawn into some images, and some show the axilla: possible shortcuts.",
        ),
        unverified="the license: other copies state other ones.",
        read=class_folders(),
    ),
    Recipe(
        name="covidct",
        title="COVID-CT (UCSD): CT slices with and without COVID-19, taken from articles",
        modality="ct",
        classes=("COVID", "NonCOVID"),
        page="https://github.com/UCSD-AI4H/COVID-CT",
        license="none is granted: all copyrights are said to be with medRxiv and bioRxiv. Ask before use.",
        license_source="https://github.com/UCSD-AI4H/COVID-CT",
        cite="Yang et al., arXiv 2003.13865.",
        homes=("", "COVID-CT", "COVID-CT-master"),
        needed=(
            "Images-processed/CT_COVID",
            "Images-processed/CT_NonCOVID",
            *(path.format(word) for path in COVID_LISTS.values() for word in ("COVID", "NonCOVID")),
        ),
        tree=(
            "Images-processed/CT_COVID/* (unpack CT_COVID.zip there)",
            "Images-processed/CT_NonCOVID/* (unpack CT_NonCOVID.zip there)",
            "Data-split/COVID/trainCT_COVID.txt, valCT_COVID.txt, testCT_COVID.txt",
            "Data-split/NonCOVID/trainCT_NonCOVID.txt, valCT_NonCOVID.txt, testCT_NonCOVID.txt",
        ),
        groups="The preprint that an image was taken from, where its name begins with the preprint's number. Patients "
        "are in COVID-CT-MetaInfo.xlsx, which is not read.",
        problems=(
            "figures of articles: 8 bits, resampled, some with marks; Hounsfield units are lost.",
            "the two classes come from different kinds of sources: a possible shortcut.",
            "one preprint in two splits may be two patients.",
        ),
        unverified="the README's wording (an early copy: github.com/cjxnew/COVID-CT), and whether the given splits "
        "separate all patients, as their makers say.",
        read=lists(
            COVID_LISTS,
            {
                "COVID": ("COVID", "Images-processed/CT_COVID"),
                "NonCOVID": ("NonCOVID", "Images-processed/CT_NonCOVID"),
            },
            r"^(?P<id>\d{4}\.\d{2}\.\d{2}\.\d+)-",
        ),
    ),
    Recipe(
        name="chaoyang",
        title="Chaoyang: patches of colon biopsies, four classes",
        modality="histopathology",
        classes=("normal", "serrated", "adenocarcinoma", "adenoma"),
        page="https://bupt-ai-cz.github.io/HSA-NRL/",
        license="the publisher's own: not for commercial purposes, to be cited, not to be passed on even altered.",
        license_source="the README.md of the download; a copy: https://github.com/Snarci/DLA, folder chaoyang-data",
        cite="Zhu et al., IEEE Transactions on Medical Imaging 41:881 (2022).",
        homes=("", "chaoyang-data"),
        needed=("train.json", "test.json", "train", "test"),
        tree=(
            'train.json and test.json: [{"name": "train/543716-IMG006x012-2.JPG", "label": 2}, …]',
            "train/*.JPG",
            "test/*.JPG",
        ),
        groups="The number that a file's name begins with (543716; also 543645 of 543645_4): taken to be the case.",
        problems=(
            "the training labels are noisy: three pathologists disagree on some patches. The test patches are, as "
            "the authors say, those on which all agree.",
        ),
        unverified="that the number in a file's name is the patient's, and that the terms are still the same.",
        read=json_lists(
            {"train": "train.json", "test": "test.json"},
            {0: "normal", 1: "serrated", 2: "adenocarcinoma", 3: "adenoma"},
            r"^(?P<id>\d+)",
        ),
    ),
    Recipe(
        name="breakhis",
        title="BreakHis: breast tumors under the microscope, benign or malignant",
        modality="histopathology",
        classes=("benign", "malignant"),
        page="http://web.inf.ufpr.br/vri/databases-software/breast-cancer-histopathological-database-breakhis",
        license="no statement of the publisher could be confirmed; copies disagree (CC BY 4.0, BSD). Ask before use.",
        license_source="https://github.com/kaiko-ai/eva (CC BY 4.0)",
        cite="Spanhol et al., IEEE Transactions on Biomedical Engineering 63:1455 (2016).",
        homes=("", "histology_slides/breast", "BreaKHis_v1/histology_slides/breast"),
        needed=("benign/SOB", "malignant/SOB"),
        tree=(
            "BreaKHis_v1/histology_slides/breast/benign/SOB/<type>/<patient>/<40X, 100X, 200X, 400X>/SOB_B_*.png",
            "BreaKHis_v1/histology_slides/breast/malignant/SOB/<type>/<patient>/<40X, 100X, 200X, 400X>/SOB_M_*.png",
        ),
        groups="Year and number of the biopsy in a file's name (14-22549 of SOB_B_A-14-22549AB-40-001.png): the slides "
        "AB, CD, … of one biopsy stay together.",
        problems=(
            "all four magnifications of a slide are read; remove folders to keep one of them.",
            "the biopsy 14-13412 is filed as ductal and as lobular carcinoma (both malignant).",
        ),
        unverified="the license at its official page.",
        read=class_folders(r"-(?P<id>\d+-\d+)[A-Z]*-\d+-\d+\.png$"),
    ),
    Recipe(
        name="oct2017",
        title="OCT2017 (Kermany): retinal optical coherence tomography, four classes",
        modality="oct",
        classes=("CNV", "DME", "DRUSEN", "NORMAL"),
        page="https://data.mendeley.com/datasets/rscbjbr9sj",
        license="CC BY 4.0 as sets made of it say; no statement of the publisher could be confirmed. Ask before use.",
        license_source="https://github.com/MedMNIST/MedMNIST (OCTMNIST)",
        cite="Kermany et al., Cell 172:1122 (2018).",
        homes=("", "OCT2017", "OCT2017 "),
        needed=tuple(f"{split}/{name}" for split in ("train", "test") for name in ("CNV", "DME", "DRUSEN", "NORMAL")),
        tree=(
            "OCT2017/train/<CNV, DME, DRUSEN, NORMAL>/CNV-1016042-12.jpeg",
            "OCT2017/test/<the same>",
            "OCT2017/val/<the same>, where the copy has it",
        ),
        groups="The patient, from a file's name (1016042 of CNV-1016042-12.jpeg).",
        problems=(
            "scans of one patient occur in both the published training and test images; results are too optimistic "
            "(Tampu et al., doi 10.1038/s41597-022-01618-6): set leakage to drop.",
            "val, where a copy has it, holds 32 images: too few to choose an epoch by.",
        ),
        unverified="the license at its official page, and the layout of version 3.",
        read=class_folders(r"^[A-Za-z]+-(?P<id>\d+)-\d+\."),
    ),
    Recipe(
        name="brainmri",
        title="Brain tumor MRI (Nickparvar): glioma, meningioma, pituitary tumor or none",
        modality="mri",
        classes=("glioma", "meningioma", "notumor", "pituitary"),
        page="https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
        license="CC0, by its collector; its sources (Cheng's figshare set, SARTAJ, Br35H) have terms of their own.",
        license_source="https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
        cite="Nickparvar: Brain Tumor MRI Dataset, Kaggle 2021, doi 10.34740/KAGGLE/DSV/2645886.",
        homes=("", "brain-tumor-mri-dataset"),
        needed=tuple(
            f"{split}/{name}"
            for split in ("Training", "Testing")
            for name in ("glioma", "meningioma", "notumor", "pituitary")
        ),
        tree=("Training/<glioma, meningioma, notumor, pituitary>/*.jpg", "Testing/<the same>"),
        groups=NO_PATIENTS,
        problems=(
            "no patient ids: slices of one patient, and copies, occur in both Training and Testing: set leakage to "
            "drop, and still expect a flattered test.",
            "'notumor' comes from another source than the tumors, with other sequences: a possible shortcut.",
        ),
        unverified="the page (quoted by PELAB-LiU/JunoBench at Hugging Face); later versions may have other counts.",
        read=class_folders(),
    ),
)
